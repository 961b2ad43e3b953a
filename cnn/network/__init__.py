"""Networks: architecture, encoder, pretrained weights, and the file that holds them."""
