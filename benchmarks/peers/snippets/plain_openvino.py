import math

import cv2
import numpy as np
import openvino

compiled = openvino.Core().compile_model("parts.onnx", "CPU")
picture = cv2.imread("part.png", cv2.IMREAD_GRAYSCALE)
scaled = cv2.resize(picture, (256, 704)).astype(np.float32) / 255
told = compiled(scaled[None, None])
score = 1 / (1 + math.exp(-float(told["decision"][0, 0])))
print("DEFECT" if score >= 0.5 else "OK")
