# cmake -DPROGRAM=... -DWORK_DIR=... -P smoke.cmake
# Runs every benchmark of a program for a moment. It fails if there is none, or if one says that it
# was skipped with an error.
file(REMOVE_RECURSE "${WORK_DIR}")
file(MAKE_DIRECTORY "${WORK_DIR}")
set(ENV{CORDWOOD_BENCHMARK_QUICK} 1)
execute_process(
  COMMAND "${PROGRAM}" --benchmark_list_tests=true
  WORKING_DIRECTORY "${WORK_DIR}"
  OUTPUT_VARIABLE names
  OUTPUT_STRIP_TRAILING_WHITESPACE
  COMMAND_ERROR_IS_FATAL ANY)
if(names STREQUAL "")
  message(FATAL_ERROR "${PROGRAM} has no benchmarks.")
endif()
message("${names}\n")
execute_process(
  COMMAND "${PROGRAM}" --benchmark_min_time=0.0005
  WORKING_DIRECTORY "${WORK_DIR}"
  OUTPUT_VARIABLE output
  ERROR_VARIABLE errors
  RESULT_VARIABLE result)
message("${output}\n${errors}")
if(NOT result EQUAL 0 OR output MATCHES "ERROR OCCURRED")
  message(FATAL_ERROR "${PROGRAM} failed (${result}).")
endif()
file(REMOVE_RECURSE "${WORK_DIR}")
