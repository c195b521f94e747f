from pathlib import Path

from segdec_edge.decision import Rule, decide
from segdec_edge.pictures import prepare, read_picture
from segdec_edge.runtime import open_backend

backend = open_backend("parts.bundle")
picture = read_picture(Path("part.png"))
prediction = backend.infer(prepare(picture, backend.spec.size_hw, backend.spec.channels)[None])
print(decide(prediction, Rule(backend.spec.threshold)).label)
