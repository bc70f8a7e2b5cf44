"""How the service is reached: routes, request ids, errors, bounded bodies, streams that close."""
