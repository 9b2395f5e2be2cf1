"""Every name of ``tf.contrib.kfac``, and what it is called here: tables, as data."""
