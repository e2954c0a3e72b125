# Doxygen's INPUT_FILTER: makes its own comments of the headers' plain ones, a line for a line.
#
#   // The head of a file            the page of the file, and that of the class that its first
#                                    words name: "A Broker ..."; of cordwood.h the first page
#   // What a declaration means.     the declaration's
#   int count = 0;  // how many      the member's, with what goes on below it at the same column
#   //   indented by more than one,  as it stands: an example, a table, a picture
#   //   after an empty line
#   // --- Sections ----             nothing: they are for those who read the header
#
#   #define without a comment       nothing: no user's business; nor is a comment on another directive
#
# In the text nothing is a command, a tag or a link of Doxygen's.

# But for what is in quotes, which Doxygen takes as it is.
function escaped(text,    before, quoted, after) {
  if (match(text, /"[^"]*"/)) {
    before = substr(text, 1, RSTART - 1)
    quoted = substr(text, RSTART, RLENGTH)
    after = substr(text, RSTART + RLENGTH)
    return escaped(before) quoted escaped(after)
  }
  gsub(/[\\@<>#&%|*_`]/, "\\\\&", text)
  return text
}

# A line of a comment without its slashes.
function line_of(text,    margin) {
  match(text, /^ */)
  margin = RLENGTH
  if (text ~ /^ *$/) { in_list = 0; return "" }
  if (text ~ /^ *[*] /) {
    in_list = margin + 2
    return substr(text, 1, margin) "* " escaped(substr(text, margin + 3))
  }
  if (in_list && margin >= in_list) return escaped(text)
  in_list = 0
  if (margin > 1) return "     " text  # Markdown takes four more spaces for code.
  return escaped(text)
}

# The lines of a comment, until it is known what it is about.
function hold(plain, text) {
  held_plain[held] = plain
  held_text[held++] = text
}

function release(is_wanted,    i) {
  for (i = 0; i < held; ++i) print is_wanted ? held_text[i] : held_plain[i]
  held = 0
}

NR == 1 {
  held = 0
  in_head = 1
  if (/^\/\/ An? [A-Z]/) subject = $3
  file = FILENAME
  sub(/^.*\//, "", file)
}

{
  match($0, /^ *\/\//)
  is_comment = RLENGTH > 0
  at = index($0, "//")
}

!is_comment { release(!/^ *#/ || /^#define /) }

in_head && !is_comment {
  in_head = 0
  print (file == "cordwood.h" ? "/// @mainpage" : "/// @file")
  next
}

# A macro that is no user's, with the lines that it goes on in.
is_hidden || (/^#define / && !has_comment) {
  is_hidden = /\\$/
  print ""
  next
}

{ has_comment = is_comment }

is_comment && /\/\/ (---|clang-format)/ {
  has_comment = 0
  hold("", "")
  next
}

# Goes on with what stands behind a member.
is_comment && member_column == at {
  hold($0, substr($0, 1, at - 1) "///<" escaped(substr($0, at + 2)))
  next
}

is_comment {
  member_column = 0
  hold($0, substr($0, 1, at - 1) "///" line_of(substr($0, at + 2)))
  next
}

{
  member_column = 0
  in_list = 0
}

subject != "" && $1 == "class" && $2 == subject && $3 == "{" {
  print "/** @copydoc " file " */ " $0
  next
}

/^[^"]*[;,a-zA-Z0-9] +\/\/ / && !/^ *(#|return|\})/ {
  member_column = at
  print substr($0, 1, at - 1) "///<" escaped(substr($0, at + 2))
  next
}

{ print }

END { release(0) }
