"""Measures trained models on photo pairs and on photos of chessboards."""
