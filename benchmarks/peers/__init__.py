"""What other libraries compute, called the way that their own code calls it."""
