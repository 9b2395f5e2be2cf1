"""The demonstration: a convolutional network learns handwritten digits, three ways."""
