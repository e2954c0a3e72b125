# The program cordwood, where CLI11 is; without it the build says so and goes on.
find_package(CLI11 CONFIG QUIET)
if(NOT CLI11_FOUND)
  message(STATUS "cordwood: the program is not built, as CLI11 is not there (Debian: libcli11-dev)")
  return()
endif()

# All but main(), for the tests.
set(main_source "${PROJECT_SOURCE_DIR}/src/tool/main.cc")
list(REMOVE_ITEM tool_sources "${main_source}")
# `cordwood kafka` is the bridge's, or says that there is none.
set(kafka_tool_sources ${tool_sources})
list(FILTER kafka_tool_sources INCLUDE REGEX "/src/tool/kafka/")
set(no_kafka_tool_sources "${PROJECT_SOURCE_DIR}/src/tool/no_kafka.cc")
if(CORDWOOD_WITH_KAFKA)
  list(REMOVE_ITEM tool_sources ${no_kafka_tool_sources})
else()
  list(REMOVE_ITEM tool_sources ${kafka_tool_sources})
endif()
add_library(cordwood_tool STATIC ${tool_sources})
cordwood_configure(cordwood_tool)
target_include_directories(cordwood_tool PUBLIC src)
target_link_libraries(cordwood_tool PUBLIC cordwood::cordwood)
if(CORDWOOD_WITH_KAFKA)
  target_link_libraries(cordwood_tool PUBLIC cordwood::kafka)
endif()
target_include_directories(cordwood_tool SYSTEM PRIVATE
  $<TARGET_PROPERTY:CLI11::CLI11,INTERFACE_INCLUDE_DIRECTORIES>)
target_precompile_headers(cordwood_tool PRIVATE
  <CLI/CLI.hpp> "${PROJECT_SOURCE_DIR}/include/cordwood/cordwood.h")
# As the tests: half the time to compile.
target_compile_options(cordwood_tool PRIVATE $<$<BOOL:${CORDWOOD_SANITIZE}>:-O0>)

add_executable(cordwood_program "${main_source}")
cordwood_configure(cordwood_program)
target_compile_definitions(cordwood_program PRIVATE "CORDWOOD_VERSION=\"${PROJECT_VERSION}\"")
target_link_libraries(cordwood_program PRIVATE cordwood_tool)
target_include_directories(cordwood_program SYSTEM PRIVATE
  $<TARGET_PROPERTY:CLI11::CLI11,INTERFACE_INCLUDE_DIRECTORIES>)
# The library has that name among the targets.
set_target_properties(cordwood_program PROPERTIES
  OUTPUT_NAME cordwood
  RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")

# The man page and the completions come from what --help comes from.
set(manuals
  man/cordwood.1 completion/cordwood.bash completion/_cordwood completion/cordwood.fish)
list(TRANSFORM manuals PREPEND "${PROJECT_BINARY_DIR}/")
list(GET manuals 0 man_page)
list(GET manuals 1 bash_completion)
list(GET manuals 2 zsh_completion)
list(GET manuals 3 fish_completion)
add_custom_command(
  OUTPUT ${manuals}
  COMMAND cordwood_program man --output "${man_page}"
  COMMAND cordwood_program completion bash --output "${bash_completion}"
  COMMAND cordwood_program completion zsh --output "${zsh_completion}"
  COMMAND cordwood_program completion fish --output "${fish_completion}"
  DEPENDS cordwood_program
  COMMENT "The man page and the completions of cordwood"
  VERBATIM)
add_custom_target(cordwood_manual ALL DEPENDS ${manuals})

if(CORDWOOD_INSTALL)
  install(TARGETS cordwood_program)
  install(FILES "${man_page}" DESTINATION "${CMAKE_INSTALL_MANDIR}/man1")
  install(FILES "${bash_completion}" RENAME cordwood
    DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions")
  install(FILES "${zsh_completion}" DESTINATION "${CMAKE_INSTALL_DATADIR}/zsh/site-functions")
  install(FILES "${fish_completion}"
    DESTINATION "${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d")
endif()
