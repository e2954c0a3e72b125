# cmake -DROOT=... -P pages.cmake
# What the pages name has to be there: the files that they link to, and in "Coming from Kafka" every
# property that a topic has.
cmake_minimum_required(VERSION 3.25)

set(missing "")
file(GLOB_RECURSE pages
  "${ROOT}/README.md" "${ROOT}/benchmarks/*.md" "${ROOT}/examples/*.md" "${ROOT}/tests/*.md")
list(FILTER pages EXCLUDE REGEX "/build/")
foreach(page IN LISTS pages)
  cmake_path(GET page PARENT_PATH folder)
  file(READ "${page}" text)
  string(REGEX REPLACE "[][;]" "|" text "${text}")  # What a list would take for its own.
  string(REGEX MATCHALL "\\|\\([^)#: ]+[)#]" links "${text}")
  foreach(link IN LISTS links)
    string(REGEX MATCH "[^|()#]+" path "${link}")
    if(NOT EXISTS "${folder}/${path}")
      string(APPEND missing "${page}: there is no ${path}\n")
    endif()
  endforeach()
endforeach()

set(page "${ROOT}/examples/coming_from_kafka.md")
file(READ "${page}" text)
file(STRINGS "${ROOT}/src/options.cc" rows REGEX "^    CORDWOOD_(PROPERTY|WORD)\\(\"")
if(NOT rows)
  string(APPEND missing "src/options.cc: no table of properties\n")
endif()
foreach(row IN LISTS rows)
  string(REGEX MATCH "\"([^\"]+)\", *([a-z_]+)" _ "${row}")
  string(FIND "${text}" "| `${CMAKE_MATCH_1}` | `${CMAKE_MATCH_2}` |" at)
  if(at EQUAL -1)
    string(APPEND missing "${page}: no row of ${CMAKE_MATCH_1}, ${CMAKE_MATCH_2}\n")
  endif()
endforeach()

if(missing)
  message(FATAL_ERROR "${missing}")
endif()
