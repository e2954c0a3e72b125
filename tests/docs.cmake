# cmake -DDOXYGEN=... -DDOXYFILE=... -DWORK_DIR=... -P docs.cmake
# Builds the manual of the public headers. It fails if Doxygen warns, or if a class, a function, an
# enum or a macro has no comment. A member needs none whose name says it all.
if(NOT DOXYGEN)
  execute_process(COMMAND "${CMAKE_COMMAND}" -E echo "skipped: needs doxygen")
  return()
endif()

file(REMOVE_RECURSE "${WORK_DIR}")
file(MAKE_DIRECTORY "${WORK_DIR}")
# That the filter has failed is said on stderr, and is no failure to Doxygen.
execute_process(
  COMMAND "${DOXYGEN}" "${DOXYFILE}"
  WORKING_DIRECTORY "${WORK_DIR}"
  ERROR_VARIABLE errors
  RESULT_VARIABLE result)
if(NOT result EQUAL 0 OR NOT errors STREQUAL "")
  message(FATAL_ERROR "Doxygen (${result}):\n${errors}")
endif()

# With EXTRACT_ALL it warns of nothing that has no comment.
file(READ "${DOXYFILE}" settings)
file(WRITE "${WORK_DIR}/Doxyfile" "${settings}\nEXTRACT_ALL = NO\nWARN_AS_ERROR = NO\n")
execute_process(
  COMMAND "${DOXYGEN}" "${WORK_DIR}/Doxyfile"
  WORKING_DIRECTORY "${WORK_DIR}"
  OUTPUT_QUIET
  ERROR_VARIABLE warnings
  COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]*(Compound|of (namespace|file)) [^\n]* is not documented" missing
  "${warnings}")
if(missing)
  list(JOIN missing "\n" text)
  message(FATAL_ERROR "No comment says what these are:\n${text}")
endif()
