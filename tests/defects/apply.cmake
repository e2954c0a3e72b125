# cmake -DPATCH=... -DFILES=... -DROOT=... -DFOLDER=... -DGIT=... -P apply.cmake
# Copies the files from the root to the folder and applies the patch to them there. Without a patch
# they are copies.
cmake_minimum_required(VERSION 3.25)

file(REMOVE_RECURSE "${FOLDER}")
foreach(path IN LISTS FILES)
  if(NOT EXISTS "${ROOT}/${path}")
    message(FATAL_ERROR "${PATCH}: changes ${path}, which is not there any more.")
  endif()
  cmake_path(GET path PARENT_PATH parent)
  file(COPY "${ROOT}/${path}" DESTINATION "${FOLDER}/${parent}")
  file(TOUCH "${FOLDER}/${path}")
endforeach()
if(PATCH STREQUAL "")
  return()
endif()

# Git must not find the repository that this folder lies in, nor anybody's settings: it would take
# the names for those of another folder, and say nothing.
cmake_path(GET FOLDER PARENT_PATH above)
execute_process(
  COMMAND "${CMAKE_COMMAND}" -E env --unset=GIT_DIR --unset=GIT_WORK_TREE
    "GIT_CEILING_DIRECTORIES=${above}" GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
    "${GIT}" apply --verbose "${PATCH}"
  WORKING_DIRECTORY "${FOLDER}"
  RESULT_VARIABLE result
  OUTPUT_VARIABLE output
  ERROR_VARIABLE output)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${PATCH}: does not apply to the sources as they are now. Make it anew: "
    "tests/defects/README.md says how.\n${output}")
endif()
foreach(path IN LISTS FILES)
  file(SHA256 "${ROOT}/${path}" before)
  file(SHA256 "${FOLDER}/${path}" after)
  if(before STREQUAL after)
    message(FATAL_ERROR "${PATCH}: leaves ${path} as it is.\n${output}")
  endif()
endforeach()
