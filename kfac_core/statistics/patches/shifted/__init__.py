"""The second moment of patches, from products of shifted images: no patch is made."""
