# The manual of the public headers as HTML: cmake --build DIR --target cordwood_docs
find_package(Doxygen REQUIRED)
set(CORDWOOD_DOCS_DIR "${PROJECT_BINARY_DIR}/docs")
configure_file(cmake/Doxyfile.in Doxyfile @ONLY)
add_custom_target(cordwood_docs
  COMMAND Doxygen::doxygen "${PROJECT_BINARY_DIR}/Doxyfile"
  WORKING_DIRECTORY "${PROJECT_BINARY_DIR}"
  COMMENT "The manual, in ${CORDWOOD_DOCS_DIR}/index.html"
  VERBATIM)
