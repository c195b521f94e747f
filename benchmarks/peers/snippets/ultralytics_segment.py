from ultralytics import YOLO

model = YOLO("parts.pt")
found = model.predict("part.png", imgsz=(704, 256), conf=0.25)[0]
print("DEFECT" if len(found.boxes) else "OK")
