raise ImportError("accelerate is hidden here, to prove that the server does without it")
