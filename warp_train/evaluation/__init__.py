"""What a trained model is worth: on photo pairs, and on photos of chessboards."""
