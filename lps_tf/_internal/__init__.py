"""What every room uses: checks, files, progress, resampling; knows no other room."""
