"""The mathematics of K-FAC, for every array library."""
