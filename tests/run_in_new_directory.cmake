# cmake -DPROGRAM=... -DWORK_DIR=... [-DARGUMENTS=...] [-DTIMES=1] [-DLAUNCHER=...] \
#   -P run_in_new_directory.cmake
# Runs PROGRAM, once or more, in a new directory in which there is an empty folder "data". It must
# exit with 0.
if(NOT TIMES)
  set(TIMES 1)
endif()
file(REMOVE_RECURSE "${WORK_DIR}")
file(MAKE_DIRECTORY "${WORK_DIR}/data")
foreach(run RANGE 1 ${TIMES})
  execute_process(
    COMMAND ${LAUNCHER} "${PROGRAM}" ${ARGUMENTS}
    WORKING_DIRECTORY "${WORK_DIR}"
    RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "Run ${run} of ${PROGRAM} ended with ${result}, in ${WORK_DIR}")
  endif()
endforeach()
file(REMOVE_RECURSE "${WORK_DIR}")
