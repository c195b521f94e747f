import cv2
import numpy as np
import torch
from plain_torch import SegDecNet, weights_in

net = SegDecNet(weights_in("parts.pt")).to("cuda", torch.float16, memory_format=torch.channels_last)
net = torch.compile(net, mode="max-autotune")
picture = cv2.imread("part.png", cv2.IMREAD_GRAYSCALE)
scaled = cv2.resize(picture, (256, 704)).astype(np.float32) / 255
with torch.no_grad():
    decision, segmentation = net(torch.from_numpy(scaled)[None, None].to("cuda", torch.float16))
print("DEFECT" if torch.sigmoid(decision.float()).item() >= 0.5 else "OK")
