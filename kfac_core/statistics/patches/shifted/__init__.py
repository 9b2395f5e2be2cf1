"""The second moment of patches from products of shifted images, without patches."""
