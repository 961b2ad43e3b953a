"""What decisions are learned from: sampled pixels in parts, and choices by scores on parts left out."""
