"""Photo files in and out, with nothing lost: pixels, profiles, captions."""
