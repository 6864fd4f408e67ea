"""What a person looks at; reads run and scene folders, never a network."""
