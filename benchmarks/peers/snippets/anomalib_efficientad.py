import cv2
from anomalib.deploy import OpenVINOInferencer

inferencer = OpenVINOInferencer("weights/openvino/model.xml", "CPU")
picture = cv2.cvtColor(cv2.imread("part.png"), cv2.COLOR_BGR2RGB)
told = inferencer.predict(cv2.resize(picture, (256, 704)))
print("DEFECT" if told.pred_score.item() >= 0.5 else "OK")
