"""The page on which people label, and the JSON interface that it uses; stands on the log alone.

uvicorn runs it in the event loop of whoever writes the log: the labeller's process, or
``rllib-sea label``. Ray Serve would add a controller and a proxy, two processes more, and their
start to every run, to balance one replica: the log has one writer, in whose process the answers
must arrive. And with the labeller's process the page comes back by itself.
"""
