"""Model files turned into batched functions: arrays in, poses out. Knows no HTTP and no asyncio."""
