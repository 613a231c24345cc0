"""What must stay as it was released: ids of shipped suites, run folders of each tables version."""
