"""``emo-mm data show``: what a data set holds, before anything is trained on it."""
