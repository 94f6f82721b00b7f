"""The stimuli: experiments, their images, the 16 categories, and the suppression of cues."""
