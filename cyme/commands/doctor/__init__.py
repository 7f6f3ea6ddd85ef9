"""`cyme doctor`: looks for what is wrong, and for what will go wrong.

`facts` are what was found, `gathering` finds them, and `findings` (pure) says what they mean and what to do.
"""
