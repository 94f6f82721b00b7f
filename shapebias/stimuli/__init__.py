"""What is shown: experiments, their images, and the 16 categories."""
