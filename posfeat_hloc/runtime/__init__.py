"""What every run needs: output folders, locks, resuming, memory, threads and progress."""
