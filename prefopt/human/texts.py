"""What the exported folder says to the person who sets up the labelling tool, and to annotators."""

README = """\
Pairs of pictures to compare
============================

pairs.csv          one row per comparison: {pairs} rows
images/            the pictures, two for each row
instructions.txt   what to tell annotators

Columns of pairs.csv (UTF-8, comma, header in the first line)
  pair_id        name of the comparison; votes must carry it unchanged
  prompt         the text that both pictures were made for; show it above them
  left, right    the two pictures, as paths inside this folder
  annotator_id   empty
  choice         empty

How to show them
  - Show the left picture on the left and the right one on the right. The sides are drawn by lot already.
  - Show both pictures at one size, and never the names of files.
  - Take every row, also where two rows look alike: they are there on purpose.
  - Rows are shuffled. The tool may shuffle them again for each annotator.
  - Let at least three people judge each pair, if you can, and at least ten people take part: the range that is given
    with each result has to allow for other people, too.
  - One person judges a row once. If there are two votes of one person on a row, the later line counts.

What to bring back
  A CSV file in UTF-8 with the columns annotator_id, pair_id and choice, a line per vote. Names of people are not
  needed: any name that is always the same for one person will do. choice is left, right or tie. More columns do no
  harm. A filled copy of pairs.csv is such a file, too.

  prefopt evaluate CONFIG --import-votes votes.csv
"""

INSTRUCTIONS = """\
You will see a text and two pictures that were made for it. Which picture would you rather have been given for it?

  left    the left picture is better
  right   the right picture is better
  tie     neither is better

Look at both pictures for as long as you need. Think of how well a picture shows what the text says, and of how good it
looks: of mistakes in bodies, faces, objects and writing, too. If one picture fits the text better and the other looks
better, choose the one that you would keep.

Choose tie only if you really cannot decide. There is no right answer: your own judgement is what counts. Please judge
alone, and judge each pair by itself, even if it seems familiar.
"""
