"""What every long command needs: files that appear whole, journals, workers, progress, tables."""
