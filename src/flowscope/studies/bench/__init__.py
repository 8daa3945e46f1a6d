"""What the studies share: samples, probes, paired differences, boundaries, and the form of a finding."""
