# cmake -DREADME=... -DWORK_DIR=... -DPREFIX=... -DGENERATOR=... -DOPTIONS=... \
#   -P readme_snippets.cmake
# Takes the first ```cpp and the first ```cmake block out of the README, as a reader does, builds
# them against the installed package and runs the program in an empty directory.
file(READ "${README}" readme)

function(take_block language result)
  string(FIND "${readme}" "\n```${language}\n" begin)
  if(begin EQUAL -1)
    message(FATAL_ERROR "${README} has no block of ${language}.")
  endif()
  string(LENGTH "\n```${language}\n" skip)
  math(EXPR begin "${begin} + ${skip}")
  string(SUBSTRING "${readme}" ${begin} -1 rest)
  string(FIND "${rest}" "\n```" end)
  string(SUBSTRING "${rest}" 0 ${end} block)
  set(${result} "${block}\n" PARENT_SCOPE)
endfunction()

take_block(cpp program)
take_block(cmake lists)

# What the README calls its program and its source is its own affair.
if(NOT lists MATCHES "add_executable\\( *([A-Za-z0-9_.-]+) +([A-Za-z0-9_.-]+)")
  message(FATAL_ERROR "No add_executable(name source) in:\n${lists}")
endif()
set(target "${CMAKE_MATCH_1}")
set(source "${CMAKE_MATCH_2}")

file(REMOVE_RECURSE "${WORK_DIR}")
file(WRITE "${WORK_DIR}/project/${source}" "${program}")
file(WRITE "${WORK_DIR}/project/CMakeLists.txt" "${lists}")
file(MAKE_DIRECTORY "${WORK_DIR}/run")

execute_process(
  COMMAND "${CMAKE_COMMAND}" -S "${WORK_DIR}/project" -B "${WORK_DIR}/build" -G "${GENERATOR}"
    "-DCMAKE_PREFIX_PATH=${PREFIX}" -DFETCHCONTENT_FULLY_DISCONNECTED=ON ${OPTIONS}
  COMMAND_ERROR_IS_FATAL ANY)
execute_process(
  COMMAND "${CMAKE_COMMAND}" --build "${WORK_DIR}/build"
  COMMAND_ERROR_IS_FATAL ANY)
execute_process(
  COMMAND ${LAUNCHER} "${WORK_DIR}/build/${target}"
  WORKING_DIRECTORY "${WORK_DIR}/run"
  RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "The README's program ended with ${result}.")
endif()
