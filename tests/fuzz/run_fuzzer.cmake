# cmake -DPROGRAM=... -DCORPUS=... -DWORK_DIR=... -DRUNS=... -P run_fuzzer.cmake
# Runs a fuzzer over a copy of its corpus, and then over so many inputs of its own. What breaks it
# stays in the work directory, as crash-... or timeout-...
cmake_minimum_required(VERSION 3.25)

file(REMOVE_RECURSE "${WORK_DIR}")
file(COPY "${CORPUS}/" DESTINATION "${WORK_DIR}/corpus")
execute_process(
  COMMAND "${PROGRAM}" corpus
    -runs=${RUNS} -seed=1 -max_len=8192 -timeout=10 -rss_limit_mb=512 -print_final_stats=1
  WORKING_DIRECTORY "${WORK_DIR}"
  RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${PROGRAM}: ended with ${result}; the input is in ${WORK_DIR}")
endif()
