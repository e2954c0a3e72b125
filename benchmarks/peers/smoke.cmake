# cmake -DPROGRAM=... -DWORK=... -DWORK_DIR=... -P smoke.cmake
# One work of a peer, with a thousand records; it fails unless the program says how long it took.
file(REMOVE_RECURSE "${WORK_DIR}")
file(MAKE_DIRECTORY "${WORK_DIR}")
execute_process(
  COMMAND "${PROGRAM}" "${WORK}" 100 1000 "${WORK_DIR}"
  OUTPUT_VARIABLE output
  RESULT_VARIABLE result)
if(NOT result EQUAL 0 OR NOT output MATCHES "^[0-9]+\\.[0-9]+ [0-9]+\n$")
  message(FATAL_ERROR "${PROGRAM} ${WORK} failed (${result}): ${output}")
endif()
file(REMOVE_RECURSE "${WORK_DIR}")
