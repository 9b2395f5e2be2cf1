"""What every block is: its verbs, and blocks of one factor or of several parts."""
