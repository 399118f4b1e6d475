"""What a trained model does to photos: predict, check, correct, measure, hand on as numbers."""
