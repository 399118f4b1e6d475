"""The lens of a photo as other programs' numbers: OpenCV's and lensfun's."""
