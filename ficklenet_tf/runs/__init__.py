"""What a run leaves on disk, and how a stage goes about its work: whole files, shards, progress, the machine."""
