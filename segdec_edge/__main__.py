"""Where the process begins: segdec, and python -m segdec_edge, which torchrun starts:

torchrun --nproc-per-node 2 -m segdec_edge train …
"""

from __future__ import annotations

import signal


def main() -> None:
    """Entry point. Ctrl-C while the commands are imported, half a second and more, ends it without a traceback."""
    interrupts = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interrupts:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from segdec_edge.cli import main as command

    if interrupts:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


if __name__ == "__main__":
    main()
