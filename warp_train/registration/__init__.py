"""Registration: finds the lens that maps one photo of a pair to the other."""
