"""Reading and writing photo files without loss: pixels, colour profiles, captions."""
