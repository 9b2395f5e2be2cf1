"""What becomes of the results: lines on the terminal, a page, a picture."""
