"""The processes of a torch.distributed job, and what they do together."""
