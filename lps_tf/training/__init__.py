"""What training needs beside a model: data checks, resuming, schedules, replicas."""
