# cmake -DPATCHES=... -DEXPECT=caught|passed -DBUILD=... -DCONFIG=... -DTARGET=... -DPROGRAM=...
#   -DGIT=... -P run.cmake
# Builds the program of a defect and runs the tests that its patch names, one by one. Of one that
# must catch it an assertion has to fail: to throw, to be killed or to hang is not enough, as that
# could be for any other reason.
cmake_minimum_required(VERSION 3.25)

if(NOT GIT)
  execute_process(COMMAND "${CMAKE_COMMAND}" -E echo "skipped: needs git, which applies a patch")
  return()
endif()

execute_process(
  COMMAND "${CMAKE_COMMAND}" --build "${BUILD}" --config "${CONFIG}" --target "${TARGET}"
    --parallel 1
  RESULT_VARIABLE result
  OUTPUT_VARIABLE output
  ERROR_VARIABLE output)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${TARGET} cannot be built:\n${output}")
endif()

# What a list would take apart or together is a plain letter.
function(flatten text result)
  string(REGEX REPLACE "[][;\\]" "x" text "${text}")
  set(${result} "${text}" PARENT_SCOPE)
endfunction()

set(failed 0)
set(names "")
foreach(patch IN LISTS PATCHES)
  file(STRINGS "${patch}" lines ENCODING UTF-8 REGEX "^Caught by: ")
  if(lines STREQUAL "")
    message(FATAL_ERROR "${patch}: no line \"Caught by: <file>: <name of a test>\".")
  endif()
  list(TRANSFORM lines REPLACE "^Caught by: [^:]*: " "")
  list(APPEND names ${lines})
endforeach()
list(REMOVE_DUPLICATES names)

foreach(name IN LISTS names)
  string(REPLACE "," "\\," spec "${name}")
  execute_process(
    COMMAND "${PROGRAM}" "${spec}" --reporter compact
    RESULT_VARIABLE result
    OUTPUT_VARIABLE output
    ERROR_VARIABLE output
    TIMEOUT 60)
  flatten("${output}" flat)
  string(REGEX MATCHALL ": failed: [^\n]*" assertions "${flat}")
  list(FILTER assertions EXCLUDE REGEX "^: failed: (unexpected exception|fatal error)")
  list(LENGTH assertions count)
  if(flat MATCHES "No test cases matched|No tests ran")
    set(verdict "there is no such test")
  elseif(NOT result MATCHES "^[0-9]+$")
    set(verdict "ended by: ${result}")
  elseif(EXPECT STREQUAL "passed")
    set(verdict "fails without a defect")
    if(result EQUAL 0)
      set(verdict "")
    endif()
  elseif(result EQUAL 0)
    set(verdict "passes, and must not")
  elseif(count EQUAL 0)
    set(verdict "fails, but no assertion of it does")
  else()
    set(verdict "")
    list(GET assertions 0 first)
    string(SUBSTRING "${first}" 10 200 first)
    message("caught by \"${name}\": ${first}")
  endif()
  if(NOT verdict STREQUAL "")
    string(SUBSTRING "${output}" 0 4000 output)
    message("\"${name}\": ${verdict}.\n${output}")
    math(EXPR failed "${failed} + 1")
  endif()
endforeach()
if(failed GREATER 0)
  message(FATAL_ERROR "${TARGET}: ${failed} tests are not as expected: ${EXPECT}.")
endif()
