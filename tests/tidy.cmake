# cmake -DROOT=... -P tidy.cmake
# The style that a machine can check: layers, include guards, lengths. It names every breach and
# fails if there was one.
cmake_minimum_required(VERSION 3.25)

# ---- Layers -----------------------------------------------------------------------------------
# Lowest first. An include goes to the same row or to one below. A folder stands for all that is in
# it, here and in src/; a new header goes into a row, or this test fails.
set(rows values os segment log group api sim connect tools)
set(row_values describe.h metrics.h options.h record.h status.h status_macros.h verify.h)
set(row_os os/)
set(row_segment segment/)
set(row_log log/)
set(row_group group/)
set(row_api
  broker.h catalog.h topic.h partition.h producer.h consumer.h completion.h repair.h
  share_consumer.h typed.h serde.h serde_json.h partitioner.h table_view.h cordwood.h)
set(row_sim sim/ testing.h)
set(row_connect kafka/)
set(row_tools tool/)

set(breaches 0)
function(breach file text)
  message("${file}: ${text}")
  math(EXPR count "${breaches} + 1")
  set(breaches ${count} PARENT_SCOPE)
endfunction()

# The number of the row of a header, as written after "cordwood/", or of a file in src/; else -1.
function(row_of path result)
  foreach(row IN LISTS rows)
    foreach(entry IN LISTS row_${row})
      string(FIND "${path}" "${entry}" at)
      if(path STREQUAL entry OR (at EQUAL 0 AND entry MATCHES "/$"))
        list(FIND rows ${row} number)
        set(${result} ${number} PARENT_SCOPE)
        return()
      endif()
    endforeach()
  endforeach()
  set(${result} -1 PARENT_SCOPE)
endfunction()

file(GLOB_RECURSE public_headers RELATIVE "${ROOT}" "${ROOT}/include/*.h")
file(GLOB_RECURSE private_files RELATIVE "${ROOT}" "${ROOT}/src/*.h" "${ROOT}/src/*.cc")
list(FIND rows api api_number)
foreach(file IN LISTS public_headers private_files)
  string(REGEX REPLACE "^(include/cordwood|src)/" "" path "${file}")
  if(file MATCHES "^src/[^/]*$")
    set(own ${api_number})
  else()
    row_of("${path}" own)
  endif()
  if(own EQUAL -1)
    breach("${file}" "is in no layer: tests/tidy.cmake has the rows")
    continue()
  endif()
  list(GET rows ${own} own_name)

  file(STRINGS "${ROOT}/${file}" includes ENCODING UTF-8 REGEX "^ *# *include *[<\"]")
  foreach(line IN LISTS includes)
    string(REGEX MATCH "([<\"])([^>\"]*)[>\"]" _ "${line}")
    set(quote "${CMAKE_MATCH_1}")
    set(included "${CMAKE_MATCH_2}")
    if(included MATCHES "xxhash\\.h$" AND NOT file STREQUAL "src/os/checksum.cc")
      breach("${file}" "includes xxhash.h, which only src/os/checksum.cc may")
    endif()
    if(included MATCHES "^cordwood/")
      string(REGEX REPLACE "^cordwood/" "" target "${included}")
    elseif(quote STREQUAL "<" OR included MATCHES "^absl/")
      continue()
    elseif(NOT EXISTS "${ROOT}/src/${included}")
      breach("${file}" "includes \"${included}\": no full path from include/ or src/")
      continue()
    elseif(file MATCHES "^include/")
      breach("${file}" "is installed and includes \"${included}\", which is not")
      continue()
    else()
      set(target "${included}")
    endif()
    if(target MATCHES "/" OR included MATCHES "^cordwood/")
      row_of("${target}" other)
    else()
      set(other ${api_number})  # A header that lies in src/ itself.
    endif()
    if(other EQUAL -1)
      breach("${file}" "includes \"${included}\", which is in no layer")
    elseif(other GREATER own)
      list(GET rows ${other} other_name)
      breach("${file}" "of layer ${own_name} includes \"${included}\" of ${other_name}, above it")
    endif()
  endforeach()
endforeach()

# ---- Include guards ---------------------------------------------------------------------------

# CORDWOOD_, folders if one likes, the file's name, _H_; and no two files share one.
file(GLOB_RECURSE headers RELATIVE "${ROOT}"
  "${ROOT}/include/*.h" "${ROOT}/src/*.h" "${ROOT}/tests/*.h" "${ROOT}/examples/*.h"
  "${ROOT}/benchmarks/*.h" "${ROOT}/tools/*.h")
list(FILTER headers EXCLUDE REGEX "^tests/acceptance/")  # Programs of users, in their own style.
set(guards "")
foreach(file IN LISTS headers)
  cmake_path(GET file STEM LAST_ONLY stem)
  string(TOUPPER "${stem}" stem)
  string(REGEX REPLACE "[^A-Z0-9]" "_" stem "${stem}")
  file(STRINGS "${ROOT}/${file}" lines ENCODING UTF-8 LIMIT_COUNT 1 REGEX "^#ifndef ")
  string(REGEX REPLACE "^#ifndef +" "" guard "${lines}")
  file(STRINGS "${ROOT}/${file}" define ENCODING UTF-8 LIMIT_COUNT 1 REGEX "^#define ")
  if(NOT guard MATCHES "^CORDWOOD_([A-Z0-9]+_)*H_$" OR NOT guard MATCHES "_${stem}_H_$")
    breach("${file}" "has the include guard \"${guard}\" and not CORDWOOD_..._${stem}_H_")
  elseif(NOT define STREQUAL "#define ${guard}")
    breach("${file}" "does not define its include guard ${guard} right after it")
  elseif(guard IN_LIST guards)
    breach("${file}" "has the include guard ${guard} of another file")
  endif()
  list(APPEND guards "${guard}")
endforeach()

# ---- Lengths ----------------------------------------------------------------------------------

set(line_length_max 100)
set(file_lines_max 600)
file(GLOB_RECURSE files RELATIVE "${ROOT}"
  "${ROOT}/include/*.h" "${ROOT}/src/*.h" "${ROOT}/src/*.cc"
  "${ROOT}/tests/*.h" "${ROOT}/tests/*.cc" "${ROOT}/tests/*.cmake" "${ROOT}/tests/CMakeLists.txt"
  "${ROOT}/examples/*.h" "${ROOT}/examples/*.cc" "${ROOT}/examples/CMakeLists.txt"
  "${ROOT}/benchmarks/*.h" "${ROOT}/benchmarks/*.cc" "${ROOT}/benchmarks/*.cmake"
  "${ROOT}/benchmarks/CMakeLists.txt"
  "${ROOT}/tools/*.h" "${ROOT}/tools/*.cc"
  "${ROOT}/cmake/*.cmake" "${ROOT}/cmake/*.in" "${ROOT}/cmake/*.sh")
list(APPEND files CMakeLists.txt)
list(FILTER files EXCLUDE REGEX "^tests/acceptance/")
string(REPEAT "[^\n]" ${line_length_max} full_line)
foreach(file IN LISTS files)
  file(READ "${ROOT}/${file}" text)
  # What CMake would take apart or together in a list is a plain letter here.
  string(REGEX REPLACE "[][;\\]" "x" text "${text}")
  # A character beyond ASCII counts as one: its second and later bytes go.
  string(ASCII 128 first)
  string(ASCII 191 last)
  string(REGEX REPLACE "[${first}-${last}]" "" text "${text}")
  string(REGEX REPLACE "\n$" "" text "${text}")
  string(REPLACE "\n" ";" lines "${text}")
  list(LENGTH lines count)
  if(count GREATER file_lines_max)
    list(SUBLIST lines 0 10 head)
    if(NOT head MATCHES "Long because")
      breach("${file}" "has ${count} lines, and no \"Long because ...\" in its first ten")
    endif()
  endif()
  if(text MATCHES "${full_line}[^\n]")
    set(number 0)
    foreach(line IN LISTS lines)
      math(EXPR number "${number} + 1")
      string(LENGTH "${line}" length)
      if(length GREATER line_length_max)
        breach("${file}:${number}" "is ${length} characters long")
      endif()
    endforeach()
  endif()
endforeach()

# ---- Names of tests ---------------------------------------------------------------------------

# The script of Catch2 2.13 that tells CTest the names takes these characters for its own.
file(GLOB_RECURSE tests RELATIVE "${ROOT}" "${ROOT}/tests/*_test.cc")
foreach(file IN LISTS tests)
  file(STRINGS "${ROOT}/${file}" names ENCODING UTF-8
    REGEX "TEST_CASE\\(\"([^\"\\]|\\\\\")*([][;]|\\\\[^\"])")
  if(names)
    breach("${file}" "has a test name with [ ] ; or a backslash in it: ${names}")
  endif()
endforeach()

if(breaches GREATER 0)
  message(FATAL_ERROR "${breaches} breaches of the style.")
endif()
