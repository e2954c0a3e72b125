# cmake -DSOURCE=... -DCXX=... -DCXX_ID=... -DCLANG=... -DINCLUDES=... -P compile_fail.cmake
# A file that must not compile. Its first lines say how, in any order:
#   // expect: <regex>        what the compiler must say
#   // flags: <flags>         given to it, such as -Werror=dangling-gsl
#   // compiler: clang|gcc    only this one knows; without the line Clang when it is there
# A file whose flags make a warning an error must compile without them: else it fails for
# some other reason than the one it is about.
file(STRINGS "${SOURCE}" head LIMIT_COUNT 5 REGEX "^// (expect|flags|compiler): ")
set(expect "")
set(flags "")
set(compiler "")
foreach(line IN LISTS head)
  string(REGEX MATCH "^// ([a-z]+): (.*)$" _ "${line}")
  set(${CMAKE_MATCH_1} "${CMAKE_MATCH_2}")
endforeach()
if(expect STREQUAL "")
  message(FATAL_ERROR "${SOURCE} has no line \"// expect: <regex>\" at its head.")
endif()

if(compiler STREQUAL "clang")
  set(program "${CLANG}")
elseif(compiler STREQUAL "gcc")
  set(program "")
  if(CXX_ID STREQUAL "GNU")
    set(program "${CXX}")
  endif()
elseif(compiler STREQUAL "")
  set(program "${CXX}")
  if(CLANG)
    set(program "${CLANG}")
  endif()
else()
  message(FATAL_ERROR "${SOURCE}: \"${compiler}\" is no compiler: clang or gcc.")
endif()
if(NOT program)
  execute_process(COMMAND "${CMAKE_COMMAND}" -E echo "skipped: needs ${compiler}")
  return()
endif()

separate_arguments(flags UNIX_COMMAND "${flags}")
list(TRANSFORM INCLUDES PREPEND "-I")
set(command "${program}" -std=c++20 -fsyntax-only ${INCLUDES})

set(plain ${flags})
list(FILTER plain EXCLUDE REGEX "^-W")
if(NOT "${flags}" STREQUAL "${plain}")
  execute_process(
    COMMAND ${command} ${plain} -w "${SOURCE}"
    RESULT_VARIABLE result
    ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${SOURCE} must compile without its -W flags, but says:\n${output}")
  endif()
endif()

execute_process(
  COMMAND ${command} ${flags} "${SOURCE}"
  RESULT_VARIABLE result
  ERROR_VARIABLE output)
if(result EQUAL 0)
  message(FATAL_ERROR "${SOURCE} compiles, and must not.")
endif()
if(NOT output MATCHES "${expect}")
  message(FATAL_ERROR "${SOURCE} does not say \"${expect}\", but:\n${output}")
endif()
message("As it must be:\n${output}")
