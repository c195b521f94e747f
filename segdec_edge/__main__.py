"""python -m segdec_edge, which torchrun starts: torchrun --nproc-per-node 2 -m segdec_edge train …"""

from segdec_edge.cli import main

if __name__ == "__main__":
    main()
