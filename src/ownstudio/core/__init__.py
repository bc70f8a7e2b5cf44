"""The words that every layer shares: requests, events, errors, SSE. Values only; nothing here does I/O."""
